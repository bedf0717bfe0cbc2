# The loop of the original controller as a Rack app: a body whose `each` never ends by itself. It records the time
# of each write, and of the end of `each`.
UPDATE_RATE = Float(ENV.fetch('UPDATE_RATE'))
RECORD = File.open(ENV.fetch('RECORD'), 'a')

class LiveStream
  def initialize(tab)
    @tab = tab
  end

  def each
    loop do
      record 'writes'
      yield "data: []\n\n"
      sleep UPDATE_RATE
    end
  ensure
    record 'left'
  end

  def record(deed)
    now = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)
    RECORD.syswrite("#{@tab} #{deed} #{now}\n")
  end
end

run lambda { |env|
  if env['PATH_INFO'] == '/models/live_stream'
    tab = env['QUERY_STRING'][/tab=(\d+)/, 1]
    [200, { 'Content-Type' => 'text/event-stream', 'Cache-Control' => 'no-cache' }, LiveStream.new(tab)]
  else
    [200, { 'Content-Type' => 'text/html; charset=utf-8' }, ["<!doctype html><p>up</p>\n"]]
  end
}
