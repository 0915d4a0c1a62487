//! Operations as protobuf bytes.
