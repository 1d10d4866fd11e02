# The image runs this once, after it has made the data folder.

# Log errors without their details: those of a violated constraint hold an e-mail address. Every role of the server may
# connect to every database unless PUBLIC's right is revoked; only the superuser needs these two.
psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<'SQL'
ALTER SYSTEM SET log_error_verbosity = terse;
REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
SQL

# Each service has a database and a role that owns it. CREATEROLE lets its migration make the application's role.
for url in "$AUTH_MIGRATION_DATABASE_URL" "$BOOKING_MIGRATION_DATABASE_URL"; do
    login=${url#*://}
    login=${login%@*}
    psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
        --set owner="${login%%:*}" --set password="${login#*:}" --set database="${url##*/}" <<'SQL'
CREATE ROLE :"owner" LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"owner";
REVOKE CONNECT, TEMPORARY ON DATABASE :"database" FROM PUBLIC;
SQL
done
