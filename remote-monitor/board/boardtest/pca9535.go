package boardtest

// PCA9535 is an expander of 16 lines without pull-ups (NXP PCA9535), two of which are an IO Zero 32. Its outputs
// power up high, and are no outputs until told. Make it with NewPCA9535.
type PCA9535 struct {
	Expander
	registers [8]byte
	pointer   byte
	pointed   bool
}

// The registers of the PCA9535's port 0; port 1's are one higher.
const (
	PCAInput    = 0
	PCAOutput   = 2
	PCAPolarity = 4
	PCAConfig   = 6
)

// NewPCA9535 makes an expander that has just got power.
func NewPCA9535() *PCA9535 {
	p := &PCA9535{}
	p.init(16, p.driven, p.reset)
	return p
}

// Register is the value of a register.
func (p *PCA9535) Register(n int) byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.get(n)
}

// Poke sets a register behind the bus's back, as noise or a former program would.
func (p *PCA9535) Poke(n int, v byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(n, v)
}

// Start implements Device.
func (p *PCA9535) Start(read bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pointed = read
	return p.answers()
}

// Write implements Device: the pointer, then bytes for its pair of registers in turn.
func (p *PCA9535) Write(b byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses() {
		return false
	}
	if !p.pointed {
		p.pointer, p.pointed = b&7, true
		return true
	}
	if !p.lines.deaf {
		p.set(int(p.pointer), b)
	}
	p.pointer ^= 1
	return true
}

// Read implements Device: the pair of registers in turn.
func (p *PCA9535) Read() byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.get(int(p.pointer))
	p.pointer ^= 1
	return v
}

// Stop implements Device.
func (p *PCA9535) Stop() {}

func (p *PCA9535) reset() {
	p.registers = [8]byte{0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF}
	p.pointer = 0
}

func (p *PCA9535) get(n int) byte {
	if n < PCAOutput {
		return byte(p.read16()>>(8*n)) ^ p.registers[PCAPolarity+n]
	}
	return p.registers[n]
}

func (p *PCA9535) set(n int, v byte) {
	if n < PCAOutput {
		return
	}
	p.registers[n] = v
	p.wrote(n, v)
}

// driven is what the chip does to its lines.
func (p *PCA9535) driven() string {
	s := make([]byte, 16)
	for i := range s {
		port, bit := i/8, byte(1)<<(i%8)
		switch {
		case p.registers[PCAConfig+port]&bit != 0:
			s[i] = byte(Floating)
		case p.registers[PCAOutput+port]&bit != 0:
			s[i] = byte(High)
		default:
			s[i] = byte(Low)
		}
	}
	return string(s)
}
