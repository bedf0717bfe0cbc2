//! All integration tests, in one binary with one module per topic. One binary is linked only once, and the tests of
//! all modules run in parallel.

mod common;

mod adapters;
mod app;
mod beside;
mod cable;
mod chromium;
mod cluster;
mod compare;
mod compare_servers;
mod control;
mod ctl;
mod dashboard;
mod db_pool;
mod detached;
mod docs;
mod durability;
mod eventsource_cases;
mod examples;
mod fix_pages;
mod fixes;
mod front_door;
mod front_fairness;
mod front_puma;
mod front_streams;
mod house;
mod http;
mod lab;
mod leaks;
mod leave;
mod listings;
mod live_parity;
mod live_rails;
mod nginx;
mod orders;
mod pages;
mod parity;
mod phrases;
mod pool;
mod positions;
#[cfg(feature = "postgresql")]
mod postgresql;
#[cfg(feature = "postgresql")]
mod postgresql_clients;
#[cfg(feature = "postgresql")]
mod postgresql_failover;
#[cfg(feature = "postgresql")]
mod postgresql_faults;
#[cfg(feature = "postgresql")]
mod postgresql_network;
#[cfg(feature = "postgresql")]
mod postgresql_servers;
#[cfg(feature = "postgresql")]
mod postgresql_writers;
mod probe;
mod probe_cli;
mod probe_http2;
mod probe_servers;
mod puma_cases;
mod pumactl;
mod reaper;
mod report;
mod reproduce;
mod request_properties;
mod screenshots;
mod serve_cli;
mod serve_stop;
mod silence;
mod simulate;
mod slowhttptest;
mod smoke;
mod smuggling;
mod soak;
mod streams;
mod tab;
mod tab_tls;
mod top;
mod tour;
mod trace;
mod vanished_peer;
mod viewers;
mod wall;
