//! The fetcher against real sockets.
