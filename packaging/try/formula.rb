# Evaluates a formula with a stand-in for Homebrew, as every platform, and compares its hashes with SHA256SUMS.
class Formula
  class << self
    attr_accessor :platform, :said

    %i[desc homepage version license url sha256].each do |name|
      define_method(name) { |value = nil| value ? (said[name] = value) : said[name] }
    end
    { on_macos: 0, on_linux: 0, on_intel: 1, on_arm: 1 }.each do |name, part|
      define_method(name) { |&block| block.call if platform[part] == name }
    end
    def test(&) = nil
  end
end

source = File.read(ARGV.fetch(0))
sums = File.readlines("SHA256SUMS").to_h { |line| line.split.reverse }
found = %i[on_linux on_macos].product(%i[on_intel on_arm]).count do |platform|
  Formula.platform, Formula.said = platform, {}
  Object.send(:remove_const, :GemSetup) if defined?(GemSetup)
  # The class that the formula makes shares what it says with its parent.
  Formula.define_singleton_method(:inherited) { |child| child.platform, child.said = platform, said }
  eval(source, TOPLEVEL_BINDING, ARGV[0])
  said = Formula.said
  abort "missing: #{said}" unless %i[desc homepage version license].all? { |name| said[name] }
  abort "the description is too long, or ends in a full stop" if said[:desc].length > 80 || said[:desc].end_with?(".")
  next false unless said[:url]
  abort "another hash: #{said}" unless sums.fetch(File.basename(said[:url])) == said[:sha256]
  true
end
abort "no platform has an archive" if found.zero?
puts "#{found} platforms"
