//! Stand-ins and servers that gem-setup tests run against.
