//! The MQTT client against a real Mosquitto.

mod bridge;
mod intake;
mod rig;
mod state;
