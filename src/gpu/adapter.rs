//! Finding and choosing an adapter.

use std::fmt;

use serde::Serialize;

use super::Caps;
use crate::{Error, Result};

/// One adapter as `moxel adapters` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterDescription {
    /// Position in the list, usable as a selector.
    pub index: usize,
    /// The device's name as its driver gives it.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, `webgpu`, ...
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, ...
    pub kind: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's version text.
    pub driver_info: String,
    /// The tier in words, see [`Caps::tier`].
    pub tier: String,
    /// Abilities and limits.
    pub caps: Caps,
}

impl AdapterDescription {
    pub(super) fn new(index: usize, info: &wgpu::AdapterInfo, caps: Caps) -> Self {
        Self {
            index,
            name: info.name.clone(),
            backend: info.backend.to_string(),
            kind: format!("{:?}", info.device_type),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            tier: caps.tier(),
            caps,
        }
    }
}

impl fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} {}, tier {})", self.name, self.backend, self.driver, self.driver_info, self.tier)
    }
}

/// Which adapter to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterSelector {
    /// The fastest kind present: discrete, then integrated, then virtual, then software.
    #[default]
    Best,
    /// The adapter at this index of [`adapters`].
    Index(usize),
    /// The first adapter whose name contains this text, whatever the case.
    Name(String),
}

impl From<&str> for AdapterSelector {
    /// A number is an index, anything else part of a name.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.into()), Self::Index)
    }
}

/// Share of the GPU's memory that may be in use when something is allocated.
const MOST_MEMORY_PERCENT: u8 = 95;

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // Validation layers are a developer's choice (WGPU_VALIDATION=1), not a side effect of a debug build.
    descriptor.flags = wgpu::InstanceFlags::empty();
    // Where the driver tells how much memory is in use, an allocation fails before the system begins to swap.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(MOST_MEMORY_PERCENT);
    wgpu::Instance::new(descriptor.with_env())
}

async fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut found = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    if found.iter().all(|a| a.get_info().backend == wgpu::Backend::BrowserWebGpu) {
        // Browsers list nothing but what they would hand out: of two GPUs the weaker one, unless asked for the other.
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let wanted = wgpu::RequestAdapterOptions { power_preference, ..wgpu::RequestAdapterOptions::default() };
        found = instance.request_adapter(&wanted).await.into_iter().collect();
    }
    found.retain(|a| a.get_downlevel_capabilities().is_webgpu_compliant());
    found
}

/// Every adapter that can run Moxel, in a stable order.
pub async fn adapters() -> Vec<AdapterDescription> {
    let found = enumerate(&instance()).await;
    found.iter().enumerate().map(|(i, a)| AdapterDescription::new(i, &a.get_info(), caps_of(a))).collect()
}

pub(super) fn caps_of(adapter: &wgpu::Adapter) -> Caps {
    Caps::new(adapter.features(), &adapter.limits(), &adapter.get_info(), &adapter.cooperative_matrix_properties())
}

pub(super) async fn choose(instance: &wgpu::Instance, selector: &AdapterSelector) -> Result<wgpu::Adapter> {
    let mut found = enumerate(instance).await;
    if found.is_empty() {
        return Err(Error::Adapter(
            "no GPU adapter found; install a graphics driver with Vulkan, Metal or DirectX 12 \
             (on Linux without a GPU: the software driver in mesa-vulkan-drivers)"
                .into(),
        ));
    }
    let names = || found.iter().map(|a| a.get_info().name).collect::<Vec<_>>().join(", ");
    let index = match selector {
        AdapterSelector::Best => {
            use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, VirtualGpu};
            let rank = |a: &wgpu::Adapter| match a.get_info().device_type {
                DiscreteGpu => 0,
                IntegratedGpu => 1,
                VirtualGpu => 2,
                Cpu => 4,
                _ => 3,
            };
            (0..found.len()).min_by_key(|&i| rank(&found[i]))
        }
        AdapterSelector::Index(i) => (*i < found.len()).then_some(*i),
        AdapterSelector::Name(text) => {
            let text = text.to_lowercase();
            found.iter().position(|a| a.get_info().name.to_lowercase().contains(&text))
        }
    };
    match index {
        Some(i) => Ok(found.swap_remove(i)),
        None => Err(Error::Adapter(format!("no adapter matches {selector:?}; there are: {}", names()))),
    }
}
