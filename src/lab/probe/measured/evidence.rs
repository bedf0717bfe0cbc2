//! Evidence from other sources than the connections: the control server's statistics and the listening processes.

/// When the statistics were requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatsMoment {
    /// Before the first tab.
    Before,
    /// While the next tab waited.
    AtLimit,
    /// After everything was closed.
    After,
}

/// One answer of the control server.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// When the control server was queried.
    pub moment: StatsMoment,
    /// Its figures, or `None` if it did not answer.
    pub figures: Option<StatFigures>,
}

/// The figures from `/stats` of Puma or ninetabs, summed over workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatFigures {
    /// `ninetabs` or `Puma`.
    pub program: String,
    /// `max_threads`.
    pub max_threads: Option<u64>,
    /// `running`.
    pub running: Option<u64>,
    /// `busy_threads`, which counts the queue as well.
    pub busy_threads: Option<u64>,
    /// `backlog`.
    pub backlog: Option<u64>,
    /// `pool_capacity`.
    pub pool_capacity: Option<u64>,
}

/// A process that holds the listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListeningProcess {
    /// Its process id.
    pub pid: u32,
    /// Its name, without control characters.
    pub name: String,
    /// Number of its threads.
    pub threads: usize,
    /// Number of its open descriptors.
    pub descriptors: usize,
    /// Its soft descriptor limit.
    pub limit: u64,
}
