//! A program that draws with its own wgpu device while a model answers on the same one:
//! `cargo run --release --example shared_device -- MODEL`.
//!
//! It draws into a texture instead of a window, so that it runs anywhere, and reads the last picture back to see that
//! it is right.

use std::path::Path;
use std::sync::mpsc::{TryRecvError, channel};

use moxel::{Chat, Engine, EngineOptions, GenerateOptions, Gpu, Token};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Pixels in a row, and rows. A row of 64 pixels has the 256 bytes that copies to buffers are aligned to.
const SIZE: u32 = 64;
const RED: [u8; 4] = [255, 0, 0, 255];
const BLUE: [u8; 4] = [0, 0, 255, 255];

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).ok_or("usage: shared_device MODEL")?;
    let (frames, tokens) = run(path.as_ref())?;
    println!("\n{frames} frames were drawn while {tokens} tokens were generated");
    Ok(())
}

/// Draws frames until the model has answered; returns how many of both there were.
pub fn run(path: &Path) -> Result<(usize, usize)> {
    let (device, queue) = pollster::block_on(open_device())?;
    let renderer = Renderer::new(&device);

    // Moxel gets handles to the same device and queue; it makes none of its own.
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone());
    let engine = Engine::load_path(&gpu, path, &EngineOptions::default(), &mut |_| {})?;
    let (sender, tokens) = channel::<moxel::Result<Token>>();
    let answering = std::thread::spawn(move || -> moxel::Result<()> {
        let mut chat = Chat::new(&engine, None)?;
        let options = GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() };
        for token in chat.say("What is the capital of France?", options)? {
            // Whoever drew has gone: nobody needs the rest.
            if sender.send(token).is_err() {
                break;
            }
        }
        Ok(())
    });

    let (mut frames, mut count) = (0, 0);
    loop {
        renderer.draw(&device, &queue);
        device.poll(wgpu::PollType::wait_indefinitely())?;
        frames += 1;
        match tokens.try_recv() {
            Ok(token) => {
                print!("{}", token?.text);
                count += 1;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
    }
    answering.join().map_err(|_| "the answering thread panicked")??;
    renderer.check(&device, &queue)?;
    Ok((frames, count))
}

/// A device as a renderer opens it, with the adapter's limits on buffers: weights need more than the guaranteed ones.
async fn open_device() -> Result<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let allowed = adapter.limits();
    let limits = wgpu::Limits {
        max_buffer_size: allowed.max_buffer_size,
        max_storage_buffer_binding_size: allowed.max_storage_buffer_binding_size,
        ..wgpu::Limits::default()
    };
    // Faster kernels are used where the device has what they need.
    let features = adapter.features() & (wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP);
    let descriptor =
        wgpu::DeviceDescriptor { required_limits: limits, required_features: features, ..wgpu::DeviceDescriptor::default() };
    Ok(adapter.request_device(&descriptor).await?)
}

/// Draws a red triangle on blue.
struct Renderer {
    pipeline: wgpu::RenderPipeline,
    picture: wgpu::Texture,
}

impl Renderer {
    fn new(device: &wgpu::Device) -> Self {
        let format = wgpu::TextureFormat::Rgba8Unorm;
        let module = device.create_shader_module(wgpu::include_wgsl!("triangle.wgsl"));
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("triangle"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: None,
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: None,
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let picture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("picture"),
            size: wgpu::Extent3d { width: SIZE, height: SIZE, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        Self { pipeline, picture }
    }

    fn draw(&self, device: &wgpu::Device, queue: &wgpu::Queue) {
        let view = self.picture.create_view(&wgpu::TextureViewDescriptor::default());
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLUE), store: wgpu::StoreOp::Store },
            })],
            ..wgpu::RenderPassDescriptor::default()
        });
        pass.set_pipeline(&self.pipeline);
        pass.draw(0..3, 0..1);
        drop(pass);
        queue.submit([encoder.finish()]);
    }

    /// Reads the picture back: its middle is red and its corner blue.
    fn check(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<()> {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("picture"),
            size: u64::from(4 * SIZE * SIZE),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * SIZE), rows_per_image: None };
        encoder.copy_texture_to_buffer(
            self.picture.as_image_copy(),
            wgpu::TexelCopyBufferInfo { buffer: &buffer, layout },
            self.picture.size(),
        );
        queue.submit([encoder.finish()]);
        buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        device.poll(wgpu::PollType::wait_indefinitely())?;
        let bytes = buffer.get_mapped_range(..)?.to_vec();
        let pixel = |x: u32, y: u32| bytes.chunks_exact(4).nth((y * SIZE + x) as usize).unwrap_or_default().to_vec();
        let (middle, corner) = (pixel(SIZE / 2, SIZE / 2), pixel(0, 0));
        if middle != RED || corner != BLUE {
            return Err(format!("the picture is wrong: {middle:?} in the middle, {corner:?} in the corner").into());
        }
        Ok(())
    }
}
