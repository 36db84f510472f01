"""Planar and radial flows of finite length along a faithful inverse."""
