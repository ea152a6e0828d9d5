//! Access units to CMAF init and media segments (ISO/IEC 23000-19). Pure: bytes in, bytes out.
