//! Models Puma::ThreadPool.
