"""The credentials of the services' calls to each other, one for each pair."""

AUTH_TO_BOOKING = "auth-to-booking-token-of-the-tests-0123456789"
BOOKING_TO_AUTH = "booking-to-auth-token-of-the-tests-0123456789"
NOTIFICATION_TO_AUTH = "notification-to-auth-token-of-the-tests-0123456789"
