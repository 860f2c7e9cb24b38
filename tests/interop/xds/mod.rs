//! XDS against real peers: the server with Envoy in both variants of the protocol and gRPC of C++ (from Python), of
//! Node.js and of Rust, the client with a management server that gRPC of C++ serves.

mod chain;
mod envoy;
mod grpc;
mod grpc_rules;
mod istio;
mod load;
mod management;
mod notice;
mod orders;
mod own_type;
mod plain_cluster;
mod reconnects;
mod refusals;
mod resources;
mod rig;
mod services;
mod taken_in;
mod to_cluster;
mod updates;
mod writes;
