//! Requests to the receiver over gRPC and HTTP.
