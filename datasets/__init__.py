"""Data sets, one file each; every module here registers itself when `dassl_vr.plugins` imports it."""
