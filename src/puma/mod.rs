//! The model of Puma in single mode.
//!
//! The room knows no SQL, no template and no route: what is served is handed in
//! from above. Of the rest of the house it uses the timeline alone.

mod pool_state;
mod sync;
pub mod thread_pool;
