//! What a user can see, end to end. One binary; this is its table of contents.

mod check;

mod adapters;
mod bench;
mod cli;
mod copies;
mod data;
mod folders;
mod hub;
#[path = "../hub_server.rs"]
mod hub_server;
mod merge;
mod parity;
mod plan;
mod quantize;
mod rows;
mod tidy;
#[path = "../tiny_model.rs"]
mod tiny_model;
mod training;
mod validate;
