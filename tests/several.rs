//! Tests that start several servers, or an engine of their own.

#[cfg(feature = "postgresql")]
mod cluster;
mod compare_servers;
#[cfg(feature = "postgresql")]
mod postgresql_clients;
#[cfg(feature = "postgresql")]
mod postgresql_failover;
#[cfg(feature = "postgresql")]
mod postgresql_faults;
#[cfg(feature = "postgresql")]
mod postgresql_network;
#[cfg(feature = "postgresql")]
mod postgresql_writers;

use crate::common::batch::Batch;

/// Each of these bodies starts up to fifty processes. With more of them running at the same time, they would take the
/// processors away from each other's servers, which give up after a few seconds.
pub static BATCH: Batch = Batch::new(
    2,
    1,
    &[
        "other_programs_get_each_model_once_and_in_order_while_everything_is_killed_and_stopped",
        "with_a_synchronous_standby_every_answered_model_survives_and_without_it_creates_wait",
        "servers_leave_a_primary_that_becomes_read_only_or_hangs_and_never_return_to_it",
    ],
    &[
        #[cfg(feature = "postgresql")]
        cluster::BODIES,
        compare_servers::BODIES,
        #[cfg(feature = "postgresql")]
        postgresql_clients::BODIES,
        #[cfg(feature = "postgresql")]
        postgresql_failover::BODIES,
        #[cfg(feature = "postgresql")]
        postgresql_faults::BODIES,
        #[cfg(feature = "postgresql")]
        postgresql_network::BODIES,
        #[cfg(all(feature = "postgresql", target_os = "linux"))]
        postgresql_network::cut::BODIES,
        #[cfg(feature = "postgresql")]
        postgresql_writers::BODIES,
    ],
);
