"""The console on the internal listener: pages for members, administrators, auditors and support. Has no back door."""
