# A Rack app that answers the requests of the cases: pages, a health check, and models that are created with a form
# or with JSON.
require 'json'
require 'rack'

run lambda { |env|
  request = Rack::Request.new(env)
  text = { 'Content-Type' => 'text/plain; charset=utf-8' }
  case [request.request_method.sub('HEAD', 'GET'), request.path_info]
  when ['GET', '/'], ['GET', ''] then [200, text, ["hello\n"]]
  when ['GET', '/up'] then [200, text, ["up\n"]]
  when ['POST', '/models']
    name = begin
      request.media_type == 'application/json' ? JSON.parse(request.body.read)['name'] : request.POST['name']
    rescue StandardError
      nil
    end
    name.to_s.empty? ? [422, text, ["a name is wanted\n"]] : [201, text, ["created\n"]]
  else [404, text, ["Not Found\n"]]
  end
}
