package boardtest

// PCF8574 is an expander of 8 lines that are each pulled up weakly or driven low (NXP PCF8574). It powers up high.
// Make it with NewPCF8574.
type PCF8574 struct {
	Expander
	latch byte
}

// NewPCF8574 makes an expander that has just got power.
func NewPCF8574() *PCF8574 {
	p := &PCF8574{}
	p.init(8, p.driven, func() { p.latch = 0xFF })
	return p
}

// Latch is what was written last.
func (p *PCF8574) Latch() byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latch
}

// Poke sets the latch behind the bus's back, as a former program would.
func (p *PCF8574) Poke(v byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latch = v
	p.wrote(0, v)
}

// Start implements Device.
func (p *PCF8574) Start(bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers()
}

// Write implements Device: each byte goes to the lines.
func (p *PCF8574) Write(b byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses() {
		return false
	}
	if !p.lines.deaf {
		p.latch = b
		p.wrote(0, b)
	}
	return true
}

// Read implements Device: what the lines show, over and over.
func (p *PCF8574) Read() byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return byte(p.read16())
}

// Stop implements Device.
func (p *PCF8574) Stop() {}

// driven is what the chip does to its lines.
func (p *PCF8574) driven() string {
	s := make([]byte, 8)
	for i := range s {
		s[i] = byte(Low)
		if p.latch&(1<<i) != 0 {
			s[i] = byte(PulledUp)
		}
	}
	return string(s)
}
