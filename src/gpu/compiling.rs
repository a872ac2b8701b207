//! Compiling ahead of use, beside other work: by threads, or where there are none, by a browser's GPU process.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
#[cfg(any(unix, windows))]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(any(unix, windows))]
use std::thread;

use super::pipelines::Variant;
use super::{Gpu, Shader};

/// Pipelines that are compiled ahead. What fails fails again where it is used.
///
/// Natively, when this is dropped, those that were begun are waited for: drivers do not expect that a process ends meanwhile.
#[derive(Default)]
pub(crate) struct Compiling {
    #[cfg(any(unix, windows))]
    stop: Arc<AtomicBool>,
    #[cfg(any(unix, windows))]
    thread: Option<thread::JoinHandle<()>>,
    #[cfg(not(any(unix, windows)))]
    variants: Vec<Arc<Variant>>,
}

impl Gpu {
    /// Compiles, in this order, what will be used; at the latest once [`Compiling::meanwhile`] is given something to do meanwhile.
    pub(crate) fn compile_ahead(self: &Arc<Self>, shaders: &[Shader]) -> Compiling {
        let mut known = HashSet::new();
        let variants = self.variants(shaders.iter().filter(|shader| known.insert(*shader)));
        #[cfg(any(unix, windows))]
        return Compiling::begin(Arc::clone(self), variants);
        #[cfg(not(any(unix, windows)))]
        return Compiling { variants };
    }
}

#[cfg(any(unix, windows))]
impl Compiling {
    fn begin(gpu: Arc<Gpu>, variants: Vec<Arc<Variant>>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let compile = move || {
            let each =
                |variant: &Arc<Variant>| if stopped.load(Ordering::Relaxed) { Ok(()) } else { gpu.pipeline(variant).map(drop) };
            drop(super::workers::shared(&variants, each));
        };
        // Without a thread they are compiled when they are used.
        Self { stop, thread: thread::Builder::new().name("moxel compiler".into()).spawn(compile).ok() }
    }

    /// Does this. No further pipeline is begun when it is done: then there is better use for the processor.
    pub(crate) async fn meanwhile<T>(&self, _gpu: &Gpu, work: impl Future<Output = T>) -> T {
        let done = work.await;
        self.stop.store(true, Ordering::Relaxed);
        done
    }

    /// Waits until all are compiled.
    #[cfg(test)]
    pub(crate) fn finish(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

#[cfg(any(unix, windows))]
impl Drop for Compiling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Had it panicked, its pipelines would be compiled where they are used.
            let _ = thread.join();
        }
    }
}

#[cfg(not(any(unix, windows)))]
impl Compiling {
    /// Does this, and while it waits, one pipeline after the other. When it is done no further one is begun.
    pub(crate) async fn meanwhile<T>(&self, gpu: &Gpu, work: impl Future<Output = T>) -> T {
        let ahead = async {
            for variant in &self.variants {
                // The browser's answer is waited for: what it refuses would otherwise count as an error of the device.
                if let Ok(made) = gpu.tried(|| gpu.compile(variant)).await {
                    gpu.keep(variant, made);
                }
            }
        };
        let (mut work, mut ahead) = (std::pin::pin!(work), std::pin::pin!(ahead));
        let mut left = true;
        std::future::poll_fn(|context| {
            let done = work.as_mut().poll(context);
            if done.is_pending() && left {
                left = ahead.as_mut().poll(context).is_pending();
            }
            done
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gpu::GpuOptions;

    #[test]
    fn what_was_compiled_ahead_is_there_and_what_fails_is_told_where_it_is_used() {
        let gpu = pollster::block_on(Gpu::new(&GpuOptions::default())).unwrap();
        let shaders = ["add_bias", "argmax", "add_bias"].map(Shader::new);
        gpu.compile_ahead(&shaders).finish();
        let work = gpu.pipeline_work();
        assert_eq!((work.count, work.time), (2, Duration::ZERO));
        gpu.pipelines(shaders.iter()).unwrap();
        assert_eq!(gpu.pipeline_work().count, 2);

        let none = Shader::new("no_such_kernel");
        gpu.compile_ahead(std::slice::from_ref(&none)).finish();
        let Err(error) = gpu.pipelines([&none].into_iter()) else { panic!("there is no such kernel") };
        assert!(error.to_string().contains("no_such_kernel"), "{error}");
    }
}
