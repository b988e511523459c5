"""What stands between the server and the routes: pure ASGI, so that it costs microseconds."""
