# A stream that writes an event per second, and a page that answers immediately.
class Ticks
  def each = (1..).each { |n| yield "data: #{n}\n\n"; sleep 1 }
end

run ->(env) {
  if env['PATH_INFO'] == '/stream'
    [200, { 'content-type' => 'text/event-stream', 'cache-control' => 'no-cache' }, Ticks.new]
  else
    [200, { 'content-type' => 'text/plain', 'content-length' => '3' }, ["up\n"]]
  end
}
