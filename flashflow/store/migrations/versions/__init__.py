"""Revision NNNN is schema version N."""
