# Run once, when the data folder has just been made.

# Errors are logged without their details: those of a violated constraint are somebody's e-mail address.
psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres --command "ALTER SYSTEM SET log_error_verbosity = terse"

# For each service a database and the role that owns it, which makes the application's role when it migrates: CREATEROLE.
for url in "$AUTH_MIGRATION_DATABASE_URL" "$BOOKING_MIGRATION_DATABASE_URL"; do
    login=${url#*://}
    login=${login%@*}
    psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
        --set owner="${login%%:*}" --set password="${login#*:}" --set database="${url##*/}" <<'SQL'
CREATE ROLE :"owner" LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"owner";
SQL
done
