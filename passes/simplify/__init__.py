"""What the fold-constants pass is made of: rewrites of single ops."""
