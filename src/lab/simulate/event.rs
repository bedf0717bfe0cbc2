//! The events of a simulation.

/// An event of the simulation.
#[derive(Debug, Clone, Copy)]
pub enum SimulatedEvent {
    /// A tab connects.
    Connects {
        tab: u32,
        attempt: u32,
    },
    /// The network cuts a tab's connection.
    Cut {
        tab: u32,
        attempt: u32,
    },
    /// A thread that was notified or started runs.
    Runs {
        server: u16,
        life: u32,
        thread: u32,
        is_new: bool,
    },
    /// A stream queries and writes.
    Updates {
        server: u16,
        life: u32,
        thread: u32,
        serial: u32,
    },
    /// The request of a connection at the reactor has arrived.
    Whole {
        server: u16,
        life: u32,
        tab: u32,
        attempt: u32,
    },
    /// A request has been served.
    Ends {
        server: u16,
        life: u32,
        thread: u32,
        serial: u32,
    },
    /// A round of the reaper.
    Reaps {
        server: u16,
        life: u32,
    },
    /// A thread above the minimum is trimmed.
    Trims {
        server: u16,
        life: u32,
    },
    /// A row is created.
    Produces,
    /// A page is requested.
    Asks,
    Kill {
        server: u16,
    },
    Restart {
        server: u16,
    },
    Stop {
        server: u16,
    },
    Continue {
        server: u16,
    },
    /// The balancer's check detects the state of the server.
    Checked {
        server: u16,
    },
    EngineBack {
        after_us: u64,
    },
    /// The whole state is checked.
    Audit,
}
