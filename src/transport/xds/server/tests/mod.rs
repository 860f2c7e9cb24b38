//! The rows of the protocol's checklist that a client driven by hand shows, each named after its row.

mod aliases;
mod delta;
mod filling;
mod happenings;
mod life;
mod limits;
mod once;
mod order;
mod presence;
mod returns;
mod sotw;
mod update;
