"""Numbers of finished runs in, text, pictures and pages out."""
