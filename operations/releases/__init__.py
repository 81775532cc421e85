"""What becomes of a release once it is published: listed, verified, promoted, rolled back, retired."""
