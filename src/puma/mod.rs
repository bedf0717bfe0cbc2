//! The model of Puma: what accepts, queues and runs requests.

pub mod thread_pool;
mod sync;
