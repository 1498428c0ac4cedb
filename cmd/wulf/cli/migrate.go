package cli

func (p *program) exportNodesConf(present) error { return nil }
