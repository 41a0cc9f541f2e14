"""Tests of what spans the apps, and the real servers that every test runs on."""
