// A triangle that covers the middle of the picture and no corner.

@vertex
fn vertex(@builtin(vertex_index) index: u32) -> @builtin(position) vec4f {
    let corners = array(vec2f(0.0, 0.9), vec2f(-0.9, -0.9), vec2f(0.9, -0.9));
    return vec4f(corners[index], 0.0, 1.0);
}

@fragment
fn fragment() -> @location(0) vec4f {
    return vec4f(1.0, 0.0, 0.0, 1.0);
}
