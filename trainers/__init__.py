"""Trainers, one file a method; every module here registers itself when `dassl_vr.plugins` imports it."""
