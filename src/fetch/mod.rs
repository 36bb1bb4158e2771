//! Gets a verified file.
