"""Allocators: mastery -> slots per lane. One file a part."""
