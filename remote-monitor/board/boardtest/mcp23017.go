package boardtest

// MCP23017 is an expander of 16 lines (Microchip DS20001952), two of which are an IO Pi. Make it with NewMCP23017.
type MCP23017 struct {
	Expander
	registers [22]byte // as BANK=0 has them
	pointer   byte
	pointed   bool
	last      uint16 // pins at the last look, for interrupts
}

// The registers of port A with BANK=0; port B's are one higher.
const (
	IODIR   = 0x00
	IPOL    = 0x02
	GPINTEN = 0x04
	DEFVAL  = 0x06
	INTCON  = 0x08
	IOCON   = 0x0A
	GPPU    = 0x0C
	INTF    = 0x0E
	INTCAP  = 0x10
	GPIO    = 0x12
	OLAT    = 0x14
)

// The bits of IOCON that the simulator knows.
const (
	ioconBank  = 0x80
	ioconSeqOp = 0x20 // 1: the pointer does not go on
)

// NewMCP23017 makes an expander that has just got power.
func NewMCP23017() *MCP23017 {
	m := &MCP23017{}
	m.init(16, m.driven, m.reset)
	m.looked = m.interrupts
	m.last = m.read16()
	return m
}

// Register is the value of a register, by its number with BANK=0. Looking clears no interrupt.
func (m *MCP23017) Register(n int) byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n == GPIO || n == GPIO+1 {
		return m.port(n)
	}
	return m.registers[n]
}

// Poke sets a register behind the bus's back, as noise or a former program would.
func (m *MCP23017) Poke(n int, v byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(n, v)
}

// Interrupting reports whether the chip asks for an interrupt on port A or B.
func (m *MCP23017) Interrupting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.registers[INTF]|m.registers[INTF+1] != 0
}

// Start implements Device.
func (m *MCP23017) Start(read bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pointed = read
	return m.answers()
}

// Write implements Device: the pointer, then bytes for the registers from there.
func (m *MCP23017) Write(b byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuses() {
		return false
	}
	if !m.pointed {
		m.pointer, m.pointed = b, true
		return true
	}
	if n, ok := m.register(); ok && !m.lines.deaf {
		// The pointer goes on in the map that was in force before the write.
		m.next()
		m.set(n, b)
		return true
	}
	m.next()
	return true
}

// Read implements Device: the registers from the pointer on.
func (m *MCP23017) Read() byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.register()
	m.next()
	if !ok {
		return 0
	}
	switch n {
	case GPIO, GPIO + 1:
		v := m.port(n)
		m.registers[INTF+n&1] = 0
		return v
	case INTCAP, INTCAP + 1:
		m.registers[INTF+n&1] = 0
	}
	return m.registers[n]
}

// Stop implements Device.
func (m *MCP23017) Stop() {}

func (m *MCP23017) reset() {
	m.registers = [22]byte{0xFF, 0xFF}
	m.pointer = 0
}

// register is the number, as BANK=0 has it, of the register at the pointer.
func (m *MCP23017) register() (n int, ok bool) {
	if m.registers[IOCON]&ioconBank == 0 {
		return int(m.pointer), m.pointer < 22
	}
	return int(m.pointer&0x0F)<<1 | int(m.pointer>>4), m.pointer&0x0F <= 0x0A && m.pointer>>4 <= 1
}

// next moves the pointer on after a byte.
func (m *MCP23017) next() {
	banked := m.registers[IOCON]&ioconBank != 0
	switch stay := m.registers[IOCON]&ioconSeqOp != 0; {
	case stay && !banked:
		m.pointer ^= 1
	case stay:
	case banked && m.pointer == 0x0A:
		m.pointer = 0x10
	case banked && m.pointer >= 0x1A, !banked && m.pointer >= 0x15:
		m.pointer = 0
	default:
		m.pointer++
	}
}

func (m *MCP23017) set(n int, v byte) {
	switch n {
	case GPIO, GPIO + 1: // writing the pins writes the latch
		m.registers[n+OLAT-GPIO] = v
	case IOCON, IOCON + 1: // one register at two addresses; bit 0 does not exist
		m.registers[IOCON], m.registers[IOCON+1] = v&^1, v&^1
	case INTF, INTF + 1, INTCAP, INTCAP + 1:
		return
	default:
		m.registers[n] = v
	}
	m.wrote(n, v)
	m.interrupts()
}

// driven is what the chip does to its lines.
func (m *MCP23017) driven() string {
	s := make([]byte, 16)
	for i := range s {
		port, bit := i/8, byte(1)<<(i%8)
		switch {
		case m.registers[IODIR+port]&bit == 0 && m.registers[OLAT+port]&bit != 0:
			s[i] = byte(High)
		case m.registers[IODIR+port]&bit == 0:
			s[i] = byte(Low)
		case m.registers[GPPU+port]&bit != 0:
			s[i] = byte(PulledUp)
		default:
			s[i] = byte(Floating)
		}
	}
	return string(s)
}

// port is what GPIOA or GPIOB reads.
func (m *MCP23017) port(n int) byte {
	port := n - GPIO
	return byte(m.read16()>>(8*port)) ^ m.registers[IPOL+port]&m.registers[IODIR+port]
}

// interrupts notices lines that changed.
func (m *MCP23017) interrupts() {
	pins := m.read16()
	for port := range 2 {
		now, was := byte(pins>>(8*port)), byte(m.last>>(8*port))
		against := was&^m.registers[INTCON+port] | m.registers[DEFVAL+port]&m.registers[INTCON+port]
		hit := (now ^ against) & m.registers[GPINTEN+port] & m.registers[IODIR+port]
		if hit != 0 && m.registers[INTF+port] == 0 {
			m.registers[INTF+port], m.registers[INTCAP+port] = hit, m.port(GPIO+port)
		}
	}
	m.last = pins
}
