"""All SQL of messaging, one module a subject. Every statement takes a whole batch."""
