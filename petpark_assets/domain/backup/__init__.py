"""Copies of a whole home elsewhere, and a home made again from one."""
