{{/*
What each service may do in Redis, in the syntax of `ACL SETUSER`: its own keys and channels, appending to its own stream,
and reading the others by group. services/standalone/redis_users.py has the same rules with their reasons; a test compares.
*/}}
{{- define "platform.redisRules" -}}
auth: >-
  resetkeys resetchannels -@all ~auth:* &auth:* +auth +hello +ping +select +client|setinfo +eval +evalsha +script|load
  +set +getdel +hincrby +expire +zadd +zcard +zrem +zremrangebyscore +time +publish +subscribe +unsubscribe
  (~auth.users +eval +evalsha +script|load +exists +xadd +xlen +xtrim +xgroup|create +xinfo|stream +xinfo|groups
  +xpending +bgrewriteaof)
booking: >-
  resetkeys resetchannels -@all ~booking:* &booking:* +auth +hello +ping +select +client|setinfo +eval +evalsha
  +script|load +set +getdel +hincrby +expire +zadd +zcard +zrem +zremrangebyscore +time +publish +subscribe
  +unsubscribe (~auth.users +eval +evalsha +script|load +xreadgroup +xack +xautoclaim +xclaim +xpending
  +xgroup|delconsumer +xinfo|stream +xinfo|groups +xinfo|consumers) (~booking.appointments +eval +evalsha +script|load
  +exists +xadd +xlen +xtrim +xgroup|create +xinfo|stream +xinfo|groups +xpending +bgrewriteaof)
notification: >-
  resetkeys resetchannels -@all ~notification:* &notification:* +auth +hello +ping +select +client|setinfo +eval
  +evalsha +script|load +set +getdel +hincrby +expire +zadd +zcard +zrem +zremrangebyscore +time +publish +subscribe
  +unsubscribe (~auth.users +eval +evalsha +script|load +xreadgroup +xack +xautoclaim +xclaim +xpending
  +xgroup|delconsumer +xinfo|stream +xinfo|groups +xinfo|consumers) (~booking.appointments +eval +evalsha +script|load
  +xreadgroup +xack +xautoclaim +xclaim +xpending +xgroup|delconsumer +xinfo|stream +xinfo|groups +xinfo|consumers)
{{- end }}
