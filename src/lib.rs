pub mod app;
pub mod control;
pub mod live;
pub mod puma;
pub mod timeline;
