"""perfkit in what others make: web servers, OpenTelemetry, Sentry. Each file is imported by its own name."""
