"""Live tables: what a shop forbids while releases serve. Durable here, followed by the samplers."""
