"""Parts of the fold-constants pass: rewrites of single ops."""
