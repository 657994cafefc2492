"""Trainers, one file per method; every module here registers itself when `dassl_vr.plugins` imports it."""
