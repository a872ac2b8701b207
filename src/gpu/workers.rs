//! Work that threads share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Result;

/// What `work` makes of each item, in no order; after an error no further item is begun.
///
/// As many threads do it as the processor computes at a time, this one among them.
pub(super) fn shared<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let share = || {
        let mut made = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            made.push(work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?);
        }
        Ok(made)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    thread::scope(|scope| {
        // A thread that cannot start leaves its share to the others.
        let others: Vec<_> = (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, share).ok()).collect();
        let mut all = share();
        for other in others {
            let made = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all = all.and_then(|mut all: Vec<R>| {
                all.extend(made?);
                Ok(all)
            });
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::Error;

    #[test]
    fn everything_is_done_once() {
        for count in [0, 1, 2, 57] {
            let items: Vec<_> = (0..count).collect();
            let mut made = shared(&items, |&item| Ok(2 * item)).unwrap();
            made.sort_unstable();
            assert_eq!(made, items.iter().map(|item| 2 * item).collect::<Vec<_>>());
        }
    }

    /// The others wait at their first item until another one has failed, and for a moment so that this is known.
    #[test]
    fn an_error_ends_it() {
        let items: Vec<_> = (0..1000).collect();
        let (failed, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
        let work = |&item: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            if item == 0 {
                failed.store(true, Ordering::Relaxed);
                return Err(Error::Gpu("the first".into()));
            }
            while !failed.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(10));
            Ok(item)
        };
        assert!(matches!(shared(&items, work), Err(Error::Gpu(why)) if why == "the first"));
        assert!(begun.into_inner() < items.len());
    }
}
