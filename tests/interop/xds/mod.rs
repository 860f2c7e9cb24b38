//! The XDS server against real clients: Envoy in both variants of the protocol, gRPC of C++ (from Python) and of Node.js.

mod envoy;
mod grpc;
mod grpc_rules;
mod load;
mod notice;
mod orders;
mod plain_cluster;
mod reconnects;
mod refusals;
mod resources;
mod rig;
mod services;
