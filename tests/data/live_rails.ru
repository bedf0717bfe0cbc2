# A Rails app with actions that use ActionController::Live, and a report on these actions.
#
#   /loop?tab=x      writes an event every 0.2 s, forever
#   /ordered?tab=x   writes an event for each request of /write?tab=x, whose answer is the result of the write
#   /state           the running actions, their writes, the threads of the process, and Puma's numbers
require 'action_controller/railtie'
require 'json'
require 'logger'

class App < Rails::Application
  config.load_defaults Rails::VERSION::STRING.to_f
  config.eager_load = false
  config.secret_key_base = 'a secret of this test'
  config.logger = Logger.new(IO::NULL)
  config.root = __dir__
  config.hosts.clear
end

RUNNING = {}
TABS = %w[closes resets].to_h { |tab| [tab, { orders: Queue.new, results: Queue.new }] }

class LiveController < ActionController::Base
  include ActionController::Live
  before_action do
    response.headers['Content-Type'] = 'text/event-stream'
    # Rack::ETag would collect the whole body.
    response.headers['Last-Modified'] = Time.now.httpdate
  end

  def forever
    RUNNING[Thread.current] = 0
    loop do
      response.stream.write "data: []\n\n"
      RUNNING[Thread.current] += 1
      sleep 0.2
    end
  rescue ActionController::Live::ClientDisconnected
    nil
  ensure
    RUNNING.delete(Thread.current)
    response.stream.close
  end

  def ordered
    tab = TABS.fetch(params[:tab])
    loop do
      tab[:orders].pop
      response.stream.write "data: x\n\n"
      tab[:results] << 'written'
    end
  rescue ActionController::Live::ClientDisconnected
    tab[:results] << 'client disconnected'
  ensure
    response.stream.close
  end
end

class StateController < ActionController::Base
  def state
    stats = JSON.parse(Puma.stats)
    threads = File.read('/proc/self/status')[/^Threads:\s+(\d+)/, 1].to_i
    # This request holds a thread itself.
    render json: { rails: Rails.version, puma: Puma::Const::VERSION, running: RUNNING.size, writes: RUNNING.values.sum,
                   threads: threads, pool_capacity: stats['pool_capacity'] + 1, backlog: stats['backlog'] }
  end

  def write
    tab = TABS.fetch(params[:tab])
    tab[:orders] << true
    render json: { result: tab[:results].pop }
  end
end

App.initialize!
App.routes.draw do
  get '/loop', to: 'live#forever'
  get '/ordered', to: 'live#ordered'
  get '/state', to: 'state#state'
  get '/write', to: 'state#write'
end
run App
