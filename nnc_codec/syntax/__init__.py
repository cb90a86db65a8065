"""The syntax of ISO/IEC 15938-17, written down once."""
