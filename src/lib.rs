pub mod puma;
pub mod timeline;
